"""How soon the first token comes under each policy: traces through the simulated world, with the production core."""
