"""The demo clip, and the script that makes it."""
