"""The routes: what each API asks and how it is answered."""
