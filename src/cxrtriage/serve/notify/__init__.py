"""The referring physician told: who it is, one message with a link, and the next contact when nobody answers."""
