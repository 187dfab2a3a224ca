from fusioncam.free_size import FreeSize

OWN = (96, 64)
FREE = FreeSize(step=(32, 0), least=(64, 64), options={})


def test_a_size_is_refused_with_what_the_model_takes():
    assert FREE.refusal((160, 64), OWN) is None
    assert FREE.refusal(OWN, OWN) is None
    for size, words in {
        (100, 64): "a height of 96 plus or minus multiples of 32, not 100: try 96 or 128",
        (32, 64): "a height of 64 or more, not 32",
        (96, 65): "a width of 64 only, not 65",
        (96,): "sizes of 2 numbers, such as 96 x 64, not 96",
        (1_600_000, 64): "102400000 pixels",
    }.items():
        assert words in str(FREE.refusal(size, OWN)), size


def test_a_photo_gets_the_largest_size_within_its_own():
    assert FREE.fitted((130, 500), OWN) == (128, 64)
    assert FREE.fitted((20, 20), OWN) == (64, 64)
    both = FreeSize(step=(32, 16), least=(64, 16), options={})
    assert both.fitted((4000, 1000), OWN, most=1_000_000) == (1984, 496)
    assert both.fitted((4000, 1000), OWN, most=1) == (64, 16)
    assert both.fitted((97, 100), OWN) == (96, 96)


def test_sizes_in_words():
    assert FREE.words(OWN) == "a height of 64, 96, 128 and so on and a width of 64"
    assert FreeSize(step=(1,), least=(5,), options={}).words((8,)) == "any length from 5 on"
