"""Live sessions: audio in as it comes, frames out at 25 per second."""
