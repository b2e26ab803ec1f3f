"""Orders of players and their insertion and deletion curves."""
