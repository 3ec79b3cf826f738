"""The simulator: what of it is public has its name in `heimdex.testing`, and all else here may change."""
