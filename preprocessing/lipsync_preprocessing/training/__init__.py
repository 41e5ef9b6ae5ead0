"""Training a generator on a dataset, as SyncTalk_2D does. Everything here needs torch."""
