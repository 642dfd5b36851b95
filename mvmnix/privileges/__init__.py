"""What mvm does with root's rights: give them up, and keep a broker for a short list of typed requests."""
