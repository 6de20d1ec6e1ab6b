"""User studies: a page on which people rank motions without the models' names, and the report of their answers."""
