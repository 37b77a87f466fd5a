"""The requests whose answers ``generate.py`` records. Add here, generate again, run the tests."""

GETKEYS: list[str] = []
REPLIES: list[list[str | list[str]]] = []
