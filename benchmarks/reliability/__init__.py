"""Does prediction ever make a run worse, or lose one?"""
