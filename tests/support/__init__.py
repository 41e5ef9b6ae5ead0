"""Parts that several test modules share: the oracle, toy avatars, raw Triton calls, real servers."""
