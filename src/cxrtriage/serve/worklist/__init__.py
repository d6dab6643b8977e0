"""The reading list: rows of results, orders and readers' words in, the order to read in out; the pages show it.

priority      how urgent a study is
reading_list  what waits, in its order; what a study's page needs
reviews       what readers say
turnaround    how long it takes, and would have taken first come, first served
drift         whether the model still does what it did
"""
