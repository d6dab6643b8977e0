"""Make the model that comes with the package: `python -m training.packaged DATA OUT`.

films     the public sets as one manifest, one prepared set
finder    the small network that finds the lungs
views     how a training film is moved, exposed and blurred
trunk     one EfficientNet-Lite0 on the cropped films
child     which trunk decides on a film
figures   the tables of the model card
__main__  all of it in order
"""
