"""Superclasses of known datasets, and pairs of classes that are often confused."""

_CIFAR10 = {
    "animal": "bird cat deer dog frog horse",
    "vehicle": "airplane automobile ship truck",
}
_CIFAR100 = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
# Those of CIFAR-100 are by Krizhevsky (2009). CIFAR-10 defines none, so its two are ours.
SUPERCLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    name: {coarse: tuple(fine.split()) for coarse, fine in groups.items()}
    for name, groups in (("cifar10", _CIFAR10), ("cifar100", _CIFAR100))
}
# Patrini et al., "Making deep neural networks robust to label noise", CVPR 2017, section 5.
CONFUSED: dict[str, dict[str, str]] = {
    "cifar10": {
        "truck": "automobile",
        "bird": "airplane",
        "deer": "horse",
        "cat": "dog",
        "dog": "cat",
    },
    # The keys are torchvision's class names.
    "mnist": {
        "2 - two": "7 - seven",
        "3 - three": "8 - eight",
        "5 - five": "6 - six",
        "6 - six": "5 - five",
        "7 - seven": "1 - one",
    },
}
