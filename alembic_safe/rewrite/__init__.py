"""`revision --autogenerate`: model diff -> recipe -> plan -> revisions."""
