"""From pictures to faces and expressions: detector, crop, classifier, model loading."""
