"""Ways in for films: what every door does with an instance (`taking`), and the watched folder (`folder`)."""
