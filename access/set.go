package access

import "math/bits"

// Set is a set of permissions. The zero value is empty.
type Set uint64 // bit p is Permission p

// SetOf gives the set of these permissions. [None] and values that are no
// permission are left out.
func SetOf(permissions ...Permission) Set {
	var s Set
	for _, p := range permissions {
		if p != None && p < permissionCount {
			s |= 1 << p
		}
	}
	return s
}

// Has reports whether p is in the set.
func (s Set) Has(p Permission) bool { return p != None && p < permissionCount && s&(1<<p) != 0 }

// Permissions lists the set in the order of [Permissions].
func (s Set) Permissions() []Permission {
	var all []Permission
	for rest := s; rest != 0; rest &= rest - 1 {
		if p := Permission(bits.TrailingZeros64(uint64(rest))); s.Has(p) {
			all = append(all, p)
		}
	}
	return all
}

// Names lists the set in noun:verb form, never nil.
func (s Set) Names() []string {
	names := make([]string, 0, bits.OnesCount64(uint64(s)))
	for _, p := range s.Permissions() {
		names = append(names, p.String())
	}
	return names
}

// ParsePermission gives the permission of a noun:verb name, and whether there
// is one. Letters count with their case.
func ParsePermission(name string) (Permission, bool) {
	for p := None + 1; p < permissionCount; p++ {
		if permissionNames[p] == name {
			return p, true
		}
	}
	return None, false
}

// Tenant gives every permission that can be given inside an organization: what
// an owner holds. Custom roles and service tokens hold nothing else; the rest
// is an operator's, and comes from the signer of its token alone.
func Tenant() Set { return ownerSet }
