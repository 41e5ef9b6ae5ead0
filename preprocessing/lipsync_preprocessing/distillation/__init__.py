"""Teaching a smaller generator by an avatar's own one. Everything here needs torch."""
