"""The work: one folder per stage, each a KFP face over a library that knows no KFP."""
