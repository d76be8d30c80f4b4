"""The SPIN model of the transfer, and the command that checks it and its mutants."""
