"""How often an image is halved on its way through a network."""

MOST = 5  # networks for 224x224 pixels leave 7x7, a 32nd
SMALLEST = 3  # the last 3x3 filters are to have a map that they fit on


def count_halvings(height: int, width: int) -> int:
    """Say how many of a network's five halvings suit an image.

    As many as leave three pixels a side: five from 96 pixels on, four from 48, three from 24, two from 12, one from 6.
    A network leaves out its first ones, so that the maps of its later layers are as large as the paper's at best.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.

    Returns
    -------
    int, from 0 to 5
    """
    return min(MOST, max(0, (min(height, width) // SMALLEST).bit_length() - 1))
