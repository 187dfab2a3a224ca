"""What each figure means, in a sentence or two, for the report."""

DEFINITIONS = {
    "drop": "How much of the model's confidence p in the class is lost when the picture is multiplied by the map: "
    "max(0, p - q) / p with q the confidence then, mean over the photos. A map that keeps the whole picture drops "
    "nothing: read it beside the others.",
    "increase": "Share of the photos on which the confidence is greater under the map than without it.",
    "insertion": "Area under the confidence while the pixels enter a blurred picture, the most salient first. The "
    "sooner the class is recognised, the larger it is.",
    "deletion": "Area under the confidence while the pixels are taken out, the most salient first. The sooner the "
    "class is lost, the smaller it is.",
    "road": "Remove and debias: pixels are replaced by what their neighbours let expect, with noise, so that the model "
    "cannot see the shape of the hole. Half the difference between removing the least and the most relevant first.",
    "road_morf": "Change of the confidence when the most relevant pixels are removed as for ROAD.",
    "road_lerf": "Change of the confidence when the least relevant pixels are removed as for ROAD.",
    "pointing": "Share of the photos on which the map's maximum lies on an object of the class.",
    "energy": "Share of the map's sum that lies on an object of the class.",
    "sanity": "Likeness, by ranks, of the map to that of the same model with its weights shuffled, from 0 to 1. A map "
    "that stays the same shows the picture, not the model.",
}
