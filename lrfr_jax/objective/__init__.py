"""What is learned: views of an image, distances between them, margins, class centers, the step that joins them."""
