"""Cuts the power of a gateway and of a platform, again and again, and judges what is left.

The agent's recorder and outbox and the receiver's inbox and SQLite store write, in a process of
their own, on file systems that are cut at instants drawn from a seed. What that process has
acknowledged it says through a pipe, which no cut can take back.
"""
