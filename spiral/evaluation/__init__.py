"""What a policy is worth: exact, sampled, in matches and in tournaments."""
