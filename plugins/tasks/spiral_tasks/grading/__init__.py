"""Graders of replies: text, numbers, options and mathematics; the last in processes of their own."""
