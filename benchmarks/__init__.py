"""Measurements that are quoted: each script runs both sides in one run and prints the ratio."""
