"""Does the search find better configurations than others do, with the same number of epochs?"""
