-- Defaults and NOT NULL

-- [set_default]
alter table orders alter column qty set default 7;

-- [set_default_now]
alter table orders alter column created set default now();

-- [drop_default]
alter table orders alter column flag drop default;

-- [set_nn]
alter table orders alter column nn set not null;

-- [set_nn_idx] column has an index
alter table orders alter column qty set not null;

-- [set_nn_validcheck] valid CHECK (nnc IS NOT NULL) exists
alter table orders alter column nnc set not null;

-- [set_nn_validcheck_and] valid CHECK (nnv IS NOT NULL AND nnv>0)
-- before:
alter table orders add constraint k2 check (nnv is not null and nnv > 0);
-- then:
alter table orders alter column nnv set not null;

-- [set_nn_validcheck_gt] valid CHECK (nnv > 0) only
-- before:
alter table orders add constraint k2 check (nnv > 0);
-- then:
alter table orders alter column nnv set not null;

-- [set_nn_notvalidcheck] CHECK exists but NOT VALID
-- before:
alter table orders add constraint k2 check (nnv is not null) not valid;
-- then:
alter table orders alter column nnv set not null;

-- [set_nn_two_cols_check] one column proven by CHECK, one not
alter table orders alter column nnc set not null, alter column nn set not null;

-- [set_nn_and_drop_check] SET NOT NULL + DROP CHECK in one ALTER TABLE
alter table orders alter column nnc set not null, drop constraint nnc_chk;

-- [set_nn_check_validated_same_tx] all three in one transaction
alter table orders add constraint k2 check (nnv is not null) not valid;
alter table orders validate constraint k2;
alter table orders alter column nnv set not null;

-- [set_nn_already]
alter table orders alter column id set not null;

-- [set_default_partitioned]
alter table pt alter column k set default 3;

-- [set_nn_partitioned]
alter table pt alter column k set not null;

-- [drop_nn]
alter table orders alter column flag drop not null;

-- [add_nn_con]
alter table orders add constraint o_nn not null nn;

-- [add_nn_notvalid]
alter table orders add constraint o_nn not null nn not valid;

-- [validate_nn]
-- before:
alter table orders add constraint o_nn not null nn not valid;
-- then:
alter table orders validate constraint o_nn;

-- [set_nn_after_notvalid]
-- before:
alter table orders add constraint o_nn not null nn not valid;
-- then:
alter table orders alter column nn set not null;

-- [set_nn_after_nn_validated]
-- before:
alter table orders add constraint o_nn not null nn not valid;
alter table orders validate constraint o_nn;
-- then:
alter table orders alter column nn set not null;

-- [addcol_nn_notvalid_inline]
alter table orders add column c int constraint cnn not null not valid;

-- [add_pk_notvalid_nn]
-- before:
alter table nopk add constraint q not null nk not valid;
-- then:
alter table nopk add primary key using index nopk_nk_ready;

-- [drop_nn_con]
-- before:
alter table orders add constraint o_nn not null nn not valid;
-- then:
alter table orders drop constraint o_nn;

-- [set_nn_empty_table]
alter table empty_table alter column n set not null;

-- [set_nn_inherited]
alter table base alter column v set not null;

-- [set_nn_only_parent]
alter table only base alter column v set not null;

-- [set_nn_deep_partitions]
alter table deep alter column n set not null;

-- [set_nn_partition_alone]
alter table pt1 alter column k set not null;

-- [set_nn_primary_key_column]
alter table users alter column id set not null;

-- [set_nn_with_add_check] the check is new, in the same ALTER TABLE
alter table orders add constraint k2 check (nnv is not null), alter column nnv set not null;

-- [set_nn_validcheck_or] OR proves nothing
-- before:
alter table orders add constraint k2 check (nnv is not null or qty > 0);
-- then:
alter table orders alter column nnv set not null;

-- [set_nn_two_proven]
-- before:
alter table orders add constraint k2 check (nnv is not null and nn is not null);
-- then:
alter table orders alter column nnv set not null, alter column nn set not null;

-- [set_nn_and_type]
alter table orders alter column nnc type bigint, alter column nnc set not null;

-- [set_nn_has_nulls]
-- before:
update orders set note = null where id = 1;
-- then:
alter table orders alter column note set not null;

-- [drop_nn_primary_key]
alter table users alter column id drop not null;

-- [drop_nn_identity]
alter table serials alter column ident drop not null;

-- [drop_default_serial]
alter table serials alter column id drop default;

-- [set_default_volatile]
alter table orders alter column amount set default random();

-- [set_default_generated]
alter table gen alter column g set default 5;

-- [set_default_view]
alter table vw alter column email set default 'x';

-- [many_defaults]
alter table orders alter column qty set default 1, alter column note drop default,
    alter column flag drop not null;
