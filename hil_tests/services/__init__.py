"""Real servers for the bench: an MQTT broker and PostgreSQL, as child processes on loopback.

Nothing here needs root or the network, and nothing here knows edgeagg.
"""
