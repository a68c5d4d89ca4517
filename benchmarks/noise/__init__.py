"""Under noise: does any use of past gradients beat a tuned optimizer?"""
