"""What running a model takes, whoever runs it: its files, a session, batches, threads."""
