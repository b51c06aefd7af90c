"""Keys and the signed tree of releases on this computer: The Update Framework, through python-tuf and securesystemslib.

* `roles`: the roles, who may hold their keys, how long what they sign is good.
* `key_folder`: private keys on disk.
* `files`: the metadata files of a tree; `repository`: releases and rollout files in it.
* `setup`, `rotation`, `approval`, `condition`: what ``edgeopt keys`` does.
"""
