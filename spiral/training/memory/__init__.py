"""What a run takes of a device's memory, said before a weight is loaded.

`architecture` reads a model's sizes, `settings` what a config keeps of it, `arithmetic` counts the bytes, `devices`
says what there is, and `plan` compares the two and finds the cheapest change that makes it fit.
"""
