"""A tournament between policies: who enters, who meets whom, how it is played, and what follows from the results."""
