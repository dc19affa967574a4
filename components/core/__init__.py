"""Contracts that two or more stages share. Imports no stage, no pipeline and no learning framework."""
