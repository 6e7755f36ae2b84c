"""What the kinds of sets share: whom to take, what is stored of a picture, writing and official counts."""
