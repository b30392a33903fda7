"""What plain facts about a server's surroundings mean, and how to mend what is wrong."""
