"""The server on which people and models play each other online: matchmaking, matches, ratings, pages.

It learns nothing.
"""
