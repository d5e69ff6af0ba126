"""How policies play: many games at once over engines and bots."""
