"""The node on the web: pages for people, a JSON API and STOW-RS for programs, signs of health for monitors."""
