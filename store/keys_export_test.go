package store

// What changes the file of the keys, on a file system with faults.
var (
	RekeyWith       = rekey
	SetRecoveryWith = setRecovery
	RecoverWith     = recoverKeys
)

// OSFiles is the real file system, for all but SyncAll.
func OSFiles() FileSystem { return &osFiles{} }
