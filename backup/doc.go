// Package backup writes a whole database into one encrypted file, while
// Gatehouse serves, and restores it into an empty database of either kind.
//
//	report, err := backup.Create(ctx, caller, db, trail, file, backup.Options{Gatehouse: "1.0", Recipients: recipients})
//
//	r, err := backup.Open(file, identities)      // decrypts, reads the header
//	report, err := r.Check(ctx, secrets, nil)    // reads it through, changes nothing
//	report, err := r.Restore(ctx, caller, url, backup.RestoreOptions{...})
//
// # What is in it
//
// Every row of every table, as one consistent state of the database: one
// transaction reads it all, and writers go on beside it. Credentials are in it
// as they are stored, sealed; the master keys are not, and belong elsewhere. What
// was destroyed before, such as a deleted organization's salt, is not in it; a
// backup from before the deletion does hold it.
//
// # The file
//
// An age file (age-encryption.org/v1) for X25519 recipients or a passphrase. In
// it is gzip, and in that are lines of JSON, each ended by a newline:
//
//	{"format":"gatehouse-backup","version":2,...}       the header, see [Header]
//	{"table":"credentials","columns":["organization TEXT",...]}
//	["acme","cred_...",...]                             a row, values as the columns say
//	{"end":"credentials","rows":1}
//	...                                                 further tables
//	{"end":"backup","rows":12,"sha256":"...",           of every byte before this line
//	 "signature":{"salt":"...","iterations":100000,"hmac":"..."}}
//
// TEXT is a string (or {"base64":"..."} where it is not UTF-8), BIGINT a number,
// BOOLEAN true or false, BYTEA a string of base64 (RFC 4648, padded), and NULL
// null. Tables stand in the order in which they can be filled, each once. Times
// are microseconds since 1970 in UTC, as they are stored.
//
// A file that was cut off or altered does not read to its end: age
// authenticates each 64 KiB, the counts and the hash say that nothing is
// missing in between. The signature is an HMAC-SHA256 of that hash with the master
// key that seals (see [seal.Authenticate]), and says that nobody else wrote the file;
// it is there where that secret was at hand, which the header says too. Reading and
// writing take memory for a few rows, however long the file is.
package backup
