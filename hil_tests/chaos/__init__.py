"""Random SIGKILLs of agent, broker and receiver on several small sites, and what came of them.

`plan` draws the strikes from a seed, `moments` waits for what they are aimed at, `witness` looks at
the files between two lives, `life` is one site under strikes, `judge` holds its two sides against
each other, `run` is the command.
"""
