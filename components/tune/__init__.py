"""The stage that tunes: trains an arm's settings and measures them on the validation split."""
