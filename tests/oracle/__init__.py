"""The oracle: statements, what real servers do with them, and what the effects engine says.

`cases/*.sql` is the list, `fixture.sql` the database in which each case begins. `measure` asks a
server, `measured.json` keeps what servers of each version answered, `predict` asks the engine and
compares, `figures` adds up.
"""
