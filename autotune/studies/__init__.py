"""Recorded spaces, and searches on them instead of on a device."""
