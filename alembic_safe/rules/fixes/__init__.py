"""The safe sequences for what rules report, with the statement's real names.

Each is None where it cannot be given exactly: it has to end in the same schema as the statement.
"""
