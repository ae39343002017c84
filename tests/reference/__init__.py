"""Slow oracles that share no code with lorascope: numpy, fractions and brute force."""
