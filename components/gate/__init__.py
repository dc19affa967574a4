"""Judges a candidate against the champion, image by image, by the declared rule."""
