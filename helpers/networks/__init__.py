"""Networks with their class names and preprocessing, and photos for them.

`vgg` is the layout that the explicit way knows, `models` the networks that the book asks, `loading`
any other by its name, `twins` the small ones of chapter 8, `attention` the heads of chapter 12 and
their own maps; `images` reads photos, `preprocess` makes of them what a network sees.
"""
