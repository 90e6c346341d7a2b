"""What a sweep says, as one page: which bound binds, in numbers, pictures and words."""
